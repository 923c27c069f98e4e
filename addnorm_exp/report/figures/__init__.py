"""The pictures of a study, by matplotlib.

Read in this order; a file uses those above it.

    style            sizes, fonts, colours and files of all pictures
    looks            each row's colour, dash and marker, for pictures and dashboard
    multiples        one small panel per row, if one panel cannot show all rows
    learning_curves  loss against steps
    sensitivity      loss against learning rate
    depth            names and positions of sublayers in the depth of a model
    gradients        gradient norm by layer and step, and by depth
    plot             draws all of a study's pictures into its folder
"""
