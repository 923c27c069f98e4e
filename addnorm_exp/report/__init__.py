"""The report room: from the record on disk to the ablation table and the pictures.

    load        a folder -> studies of runs                    record      one run's folder
    select      the winner of tuning, by the protocol           statistics  intervals, paired differences, Holm
    groups      which runs are seeds of one another             outcome     what a group's seeds say about one number
    table       rows and columns, confounds and notes           render      Markdown, LaTeX, CSV
    figures     writes the pictures                             curves, sensitivity, gradients: one picture each

It reads files only, and never imports JAX.
"""
