"""Which addresses answer, and what with?"""
