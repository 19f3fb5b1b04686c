"""Virtual H&E slides of lymph nodes with reference masks, for demonstrations and tests.

`SlideSpec` says what a slide shows; `write_virtual_slide` and `make_cohort` (in `uga.virtual.slide`) write files;
`render` and `reference` (in `uga.virtual.render`) give pixels and labels without files.
"""
