"""The flag of commands that compile programs which are worth keeping."""

from addnorm_exp.config.flags import Flag

CACHE = Flag("program_cache", bool, True, "keep compiled programs in the user's cache folder (at most 2 GB)")
