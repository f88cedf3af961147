"""The erasure of drives that leave the rack: with consent, verified by a full read, and certified."""
