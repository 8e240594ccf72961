"""The report: what was found, for people and for machines.

`report.Report` is report.json; `console` and `lines` write it to a terminal, `html` and `view` to a
page (`templates/`), with `plots`. `figures` words the numbers for all of them.
"""
