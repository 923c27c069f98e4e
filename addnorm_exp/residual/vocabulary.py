"""The words of records: what a scheme rests on, what its init multipliers are, and the weight matrices by their role."""

EVIDENCE = ("paper", "code", "secondary", "memory", "own")
METHOD, RECIPE = "method", "recipe"  # what init multipliers are
ROLES = ("query", "key", "value", "out", "gate", "up", "down")  # the weight matrices of a block
OUTPUT_ROLES = ("out", "down")  # those that write to the stream
# Those whose product a branch is, softmax and gate apart: W_v, W_o, W_1, W_2.
BRANCH_ROLES = ("value", "out", "up", "down")
ENDS_ROLES = ("embedding", "head")  # and those at the ends
