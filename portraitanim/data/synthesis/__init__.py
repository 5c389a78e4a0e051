"""Training clips of talking heads, made from still portraits.

Portraits are cut out (`portrait_bank`), mixed into new people (`morphing`) and varied (`portrait_variants`). Motion and
sound come from real talkers (`talking_tracks`, `driver_motion`), or from text-to-speech (`speech_source`, `visemes`)
whose mouth shapes move the whole face as it was measured on the real ones (`expression_basis`). `mesh_warp` draws the
frames, `clip_synthesis` writes the dataset that `portraitanim.data.records` describes.
"""
