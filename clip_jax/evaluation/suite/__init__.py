"""Many models on many data sets, and the page that compares them."""
