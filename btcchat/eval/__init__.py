"""Scoring captions against references: BLEU, METEOR, ROUGE-L, CIDEr-D and S*m, with the same numbers as pycocoevalcap.

From Python, call ``score_captions`` in captions/score.py; the command is ``btcchat score``. Needs the extra ``eval``
but not torch.
"""
