"""The demo: Headgate rolls out releases of the sample services on the embedded AWS."""
