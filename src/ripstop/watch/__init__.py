"""Trainings, looked at from outside: what their folders say, and a picture of it in a terminal. Needs no torch."""
