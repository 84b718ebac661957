"""Do our methods do what their authors' code does? The same file, both trainings, one judge: `make parity PEERS=DIR`.

`plan` says what is compared. `sides` makes the jobs of it, which `jobs` runs, resumably: `drivers` are the peers' side,
in processes of their own; our side is the ordinary command line or, for models, `ours`. `export` writes the file that
both learn from, `judge` evaluates policies in one simulator, `fidelity` rollouts; `collect` gathers what has finished,
`compare` says whether both sides agree, `page` draws the table. Nothing else imports this room.
"""
