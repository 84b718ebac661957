"""Running cells: one by one, side by side or on Ray, with checkpoints, so that a second run does only what is missing.

Read in this order: `matrix` (the missing cells, a process each), `cell` (one cell as its data flows), `updates` (plain
or as a CUDA graph). Beside `cell`: `collector` (records), `costs` (seconds, memory, evaluations), `divergence` (seeds
that stop being finite), `resume` (checkpoints), `provenance` (code, data, versions, machine). Beside `matrix`: `lease`
(one process per cell), `ray_engine`, `plan` (cells and models before anything starts), `trackers` (TensorBoard, wandb).
"""
