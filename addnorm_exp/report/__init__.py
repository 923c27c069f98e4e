"""Reports: from the record on disk to the ablation table and the pictures. This package only reads files, and never imports JAX.

Read in this order; a file uses those above it.

    record        one run's folder as a `Run`; its scalars and per-layer arrays
    load          a folder that the user names -> its studies, each `Study` a plan with its runs
    statistics    intervals, paired differences, Holm; plain numbers
    titles        the names of schemes and norm kinds in papers
    groups        which runs are seeds of one another, and which phase is reported: `Reported`
    outcome       one number over a group's seeds, in a form that n allows

    notes         the notes under a table
    metric        the metric of a table: the protocol's, a named one, or the loss at an equal budget
    rates         loss against learning rate: the data of its pictures, and the sensitivity score
    published     published numbers beside ours
    compare       every row against its baseline: paired differences, Holm, detectable differences

    latex         any text as LaTeX
    render        a `Table` and its forms: Markdown, LaTeX, CSV
    confounds     costs and confounds of the rows: columns if they differ, else one note
    best          which rows a test does not distinguish from the best
    dashes        why cells are empty
    table         the ablation table of a study: one row per group
    choice        the columns that the user chooses
    pivot         one number over chosen axes

    differences   how two runs or two studies differ, in config and numbers

    style         sizes, fonts, colours and files of all pictures
    looks         each row's colour, dash and marker, for pictures and dashboard
    multiples     one small panel per row, if one panel cannot show all rows
    curves        learning curves
    sensitivity   loss against learning rate
    depth         names and positions of sublayers in the depth of a model
    gradients     gradient norm by layer and step, and by depth
    figures       draws all of a study's pictures into its folder

    dashboard/    one HTML page that shows studies in a browser

    server        studies from W&B's server, as folders to load
    workspace     a saved view of a W&B project

How to: another column -> table; another note -> notes; another picture -> a file with `draw`, named in figures.FIGURES.
"""
