"""What a study is made from as plain values: names, numbers and texts."""
