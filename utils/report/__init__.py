"""Reports as self-contained HTML pages: Jinja2 templates and charts by matplotlib."""

from utils.report.charts import Chart, bar_chart, histogram
from utils.report.page import image_uri, write_page

__all__ = ["Chart", "bar_chart", "histogram", "image_uri", "write_page"]
