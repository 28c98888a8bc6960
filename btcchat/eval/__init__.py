"""Scoring captions against references: BLEU, METEOR, ROUGE-L, CIDEr-D and S*m, equal to pycocoevalcap.

``score_captions`` in score.py is the Python entry, ``btcchat score`` the command. Needs the extra ``eval``, no torch.
"""
