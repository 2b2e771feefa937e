"""What does a person see in a browser, and how is it drawn?"""
