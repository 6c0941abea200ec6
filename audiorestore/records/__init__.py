"""What was done, file by file: records beside the results, and the ledger of a run."""
