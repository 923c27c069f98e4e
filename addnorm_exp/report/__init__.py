"""Reports: from the record on disk to tables, figures and the dashboard. This package only reads
files, and never imports JAX.

Read in this order; a file uses those above it, and a package uses those above it.

    run           one run's folder as a `Run`; its scalars and per-layer arrays
    load          a folder that the user names -> its studies, each a plan with its runs
    download      studies from W&B's server, as folders to load

    protocol/     what is compared, and its statistics
    tables/       the ablation table and the pivot, as Markdown, LaTeX and CSV
    figures/      the pictures, by matplotlib
    dashboard/    one HTML page that shows studies in a browser; a saved view of a W&B project

How to: another column -> tables/ablation; another note -> protocol/notes; another picture -> a file
in figures/ with `draw`, named in figures/plot.
"""
