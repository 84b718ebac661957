"""Why generators help or harm, over many cells: what sections of the page draw when a folder has enough for it.

Read `pairs` (differences of any two cells, judged by the page's one rule) and `decomposition` (what perfect rollouts
give, what errors cost, what mixing and coupling do), then `quantities` (what was measured of every cell, beside its
change) and `association` (rank correlations over clusters, signs beside what followed them). Cells in regimes that do
not hold are in none of the numbers over cells.
"""
