"""The catalogue of accelerators as data, for the code that provisions them and the code that runs on them."""
