"""The local dashboard: studies' records -> one HTML page that contains its data, its code and plotly.js, and uses no network.

    pack       arrays as short texts, each stored once; thinning of long curves
    runs       the runs of a study with their configs, results and groups
    scalars    their scalars against steps
    heat       their per-layer diagnostics, layer × step
    rates      final loss against learning rate
    page       assembles data, style and scripts from page/, and plotly.js
    workspace  a saved view of a W&B project

This package computes the page's numbers with the same functions as the table and the pictures. The scripts in page/ (read in the order
of `page.SCRIPTS`) filter, smooth and draw them.
"""
