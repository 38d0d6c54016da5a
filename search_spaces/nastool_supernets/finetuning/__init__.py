"""Fine-tuning of subnets on tasks: does a front keep its promise (SuperShaper, section 2.3)?"""
