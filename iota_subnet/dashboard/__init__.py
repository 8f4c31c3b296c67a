"""The page that a validator serves at `/` of its public address: the run, its miners, and why each is paid what it is.

Law: read only, and nothing secret. Who will be audited is not to be seen before it has committed, so neither the books
of audits nor the run's secret enter a view.
"""
