"""Tests of flows: cases in YAML, run on the worker's own steps, with nothing connected.

model       what a test file may say
documents   finds test files and their flows, reads them           (I/O)
checks      holds a test file against the flow it is about
events      what a case writes → a batch, as its source would make it
capture     stands where sinks and the state store would
mocks       stands where a step would reach outside
running     one case down the road: ingest → steps → settle
matching    where two values differ, path by path
judging     what was expected against what happened
"""
