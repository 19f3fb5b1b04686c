"""The reviewer's page: a local web app in which a clinician corrects ranked patches, confirms or skips them."""
