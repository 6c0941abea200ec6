"""Networks: from features of a spectrum to a restored spectrum."""
