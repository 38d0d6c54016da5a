"""From one net to a front of smaller ones: block by block, fitted, searched, measured again."""
