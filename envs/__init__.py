"""One flat file per environment; the table of their ids is metagym/registration.py."""
