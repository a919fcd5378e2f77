"""Networks on features that another network made."""
