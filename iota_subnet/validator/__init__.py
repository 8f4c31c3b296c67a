"""The validator's shell around the core: it verifies, journals, performs, audits and writes weights."""
