"""What hosts are made of, kept here: resolved by apt and pip, locked by hashes, served as repositories."""
