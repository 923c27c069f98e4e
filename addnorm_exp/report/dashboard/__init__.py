"""The local dashboard: studies' records -> one HTML page that holds its data, its code and plotly.js, and asks no network for anything.

    pack      arrays as short texts, each held once; thinning of long curves
    runs      the runs of a study with their configs, results and groups
    curves    their scalars against steps
    heat      their per-layer diagnostics, layer × step
    rates     final loss against learning rate
    page      puts it together: data, style and scripts from page/, plotly.js

The numbers of the page are made here, from the same functions as the table's and the pictures'; the scripts in page/ (read in the
order of `page.SCRIPTS`) filter, smooth and draw them.
"""
