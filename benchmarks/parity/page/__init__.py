"""The page of parity, drawn from the json files in its folder alone.

`table` writes the table, the text and the csv of all checkpoints; `figures` draws a figure for each family.
"""
