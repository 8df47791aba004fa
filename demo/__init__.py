"""The demo: releases of the sample services, rolled out by Headgate on the embedded AWS."""
