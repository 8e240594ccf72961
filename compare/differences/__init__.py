"""The catalogue of differences between the frameworks.

`catalogue.catalogue()` hands out every `Difference` of these files by code: what each side does,
how to mend it, a measurement that runs both, and the edits that the finder tries at a `Site`.
`shared/` holds what the entries share, and no entry.
"""
