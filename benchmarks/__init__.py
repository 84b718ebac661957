"""From a suite to cells, from cells to records, from records to a report.

`spec` says what a cell is, `suite` reads TOML and `--set` into cells, `probe` says what they will cost, `equal_compute`
gives real data alone the FLOP of the dearest generator, `store` is the layout of a results folder, and `arguments` are
those of the command line. Rooms: `execution` runs cells, `evaluation` measures policies and rollouts, `audit`
checks results folders, `report` draws them, `speed` times our code beside others', `parity` compares what it learns
with what theirs does; `peers` loads others' code for both. Data: `suites` (what to run),
`baselines` (what `check` compares with). Read `suite`, `spec`, `execution`, `store`, `report`, in this order.
"""
