"""Pictures and pages, drawn from records."""
