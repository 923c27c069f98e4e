"""Tables: what the protocol computes, laid out in rows and columns.

Read in this order; a file uses those above it.

    latex             any text as LaTeX
    render            a `Table` and its forms: Markdown, LaTeX, CSV

    published_column  published numbers beside ours
    empty_cells       why cells are empty
    ablation          the ablation table of a study: one row per group
    choice            the columns that the user chooses
    pivot             one number over chosen axes
"""
