"""Drills: inject a real fault, measure what users see of it, compare with what is promised."""
