"""Parsers and protocols against whatever may come in, for as long as there is time.

A plain run gives each test about a second; ``bin/test --fuzz 30`` shares 30 minutes among them.
A failure tells the seed and a small input; ``MOXTW_FUZZ_SEED`` repeats a run.
"""
