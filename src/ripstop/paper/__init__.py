"""From records to tables, figures and numbers. Never imports torch."""
