"""Who may ask, and how is it answered over HTTP?"""
