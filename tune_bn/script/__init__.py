"""A training script's own side of a run: what it is asked for, and how it reports. The standard library alone.

It runs in the script's process, perhaps in another environment than the study's: nothing here imports the rest of the
package.
"""
