"""The finder: the first place where two models part, and why.

`finder.find` climbs the ladder; where it differs, `replay.Replay` runs every layer alone,
`origin.locate` names the first that differs by itself, `sites.sites` takes that place out of
PyTorch's model, and `cause.cause` tries the edits of the catalogue there. `compiler` asks whether
it is the compiler, `lint` reads hyper-parameters before anything runs, `evidence` leaves a folder.
"""
