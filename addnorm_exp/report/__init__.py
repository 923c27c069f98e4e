"""The report room: from the record on disk to the ablation table and the pictures. It reads files only, and never imports JAX.

Read in this order; a file uses those above it.

    record        one run's folder as a `Run`; its scalars and per-layer arrays
    load          a folder that a person names -> its studies, each `Study` a plan with its runs
    statistics    intervals, paired differences, Holm; plain numbers
    titles        what a paper calls schemes and norm kinds
    groups        which runs are seeds of one another, and which phase is shown: `Reported`
    outcome       what a group's seeds say about one number, in words that n allows

    notes         what must be said under a table
    metric        the number that a table is about: the protocol's, a named one, or that at an equal budget
    rates         loss against learning rate: what its pictures show, and the score of sensitivity
    published     others' numbers beside ours
    compare       every row against its baseline: paired differences, Holm, detectable differences

    latex         any text as LaTeX
    render        a `Table` and its forms: Markdown, LaTeX, CSV
    confounds     costs and confounds of the rows: as columns where they differ, said once where they are alike
    best          which rows a test does not tell apart from the best
    dashes        why cells are empty
    table         the ablation table of a study: a row a group
    choice        the columns that a person asks for
    pivot         one number over axes of one's choice

    differences   how two runs or two studies differ, in config and numbers

    style         sizes, type, colours and files of all pictures
    looks         each row's colour, dash and marker, for pictures and dashboard
    multiples     a small panel a row, where rows are too many for one panel
    curves        learning curves
    sensitivity   loss against learning rate
    depth         names and places of sublayers in the depth of a model
    gradients     gradient norm by layer and step, and by depth
    figures       draws all of a study's pictures into its folder

    dashboard/    one HTML page to look at studies in a browser: all of the above, live

    server        studies from W&B's server, as folders to load
    workspace     a saved view of a W&B project

How to: another column -> table; another note -> notes; another picture -> a file with `draw`, named in figures.FIGURES.
"""
