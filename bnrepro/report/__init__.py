"""Reports: figures and Markdown made from run folders alone."""
