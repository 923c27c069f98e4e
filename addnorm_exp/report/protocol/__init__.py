"""The protocol of a report: which runs count, which numbers represent them, and what a difference
between them is worth. Nothing here draws or lays out.

Read in this order; a file uses those above it.

    statistics      intervals, paired differences, Holm; plain numbers
    titles          the names of schemes and norm kinds in papers
    groups          which runs are seeds of one another, and which phase is reported: `Reported`
    outcome         one number over a group's seeds, in a form that n allows

    notes           the notes under a table
    metric          the metric of a table: the protocol's, a named one, or the loss at an equal budget
    learning_rates  loss against learning rate, and the sensitivity score
    compare         every row against its baseline: paired differences, Holm, detectable differences
    best            which rows a test does not distinguish from the best
    confounds       costs and confounds of the rows: columns if they differ, else one note

    differences     how two runs or two studies differ, in config and numbers
"""
