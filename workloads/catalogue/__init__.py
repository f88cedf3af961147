"""The catalogue of accelerators as data, for what provisions them and for what runs on them."""
