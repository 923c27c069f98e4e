"""The report room: from the record on disk to the ablation table and the pictures. It reads files only, and never imports JAX.

Read in this order; a file uses those above it.

    record        one run's folder as a `Run`; its scalars and per-layer arrays
    load          a folder that a person names -> its studies, each `Study` a plan with its runs
    statistics    intervals, paired differences, Holm; plain numbers
    select        the winner of tuning, by the protocol (the sweep asks it too)
    groups        which runs are seeds of one another, and which phase is shown: `Reported`
    outcome       what a group's seeds say about one number, in words that n allows

    render        a `Table` and its forms: Markdown, LaTeX, CSV
    notes         what must be said under a table
    table         the ablation table of a study: a row a group
    pivot         one number over two axes of one's choice

    style         sizes, type, colours and files of all pictures
    curves        learning curves
    sensitivity   loss against learning rate
    gradients     gradient norm by layer and step, and by depth
    figures       draws all of a study's pictures into its folder

How to: another column -> table; another note -> notes; another picture -> a file with `draw`, named in figures.FIGURES.
"""
