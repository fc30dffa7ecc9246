"""The papers that say something of a claim since, and where they are found."""

from __future__ import annotations

from collections.abc import Mapping

ARXIV: Mapping[str, str] = {
    "Arora et al. 2018": "1812.03981",
    "Bjorck et al. 2018": "1806.02375",
    "Chen et al. 2019": "1905.05928",
    "Desjardins et al. 2015": "1507.00210",
    "Fort et al. 2019": "1912.02757",
    "He et al. 2016": "1603.05027",
    "Hoffer et al. 2017": "1705.08741",
    "Hoffer et al. 2018": "1803.01814",
    "Huang et al. 2018": "1804.08450",
    "Ioffe 2017": "1702.03275",
    "Lakshminarayanan et al. 2017": "1612.01474",
    "Li and Arora 2019": "1910.07454",
    "Li et al. 2016": "1603.04779",
    "Li et al. 2018": "1801.05134",
    "Luo et al. 2018": "1809.00846",
    "Mishkin et al. 2016": "1606.02228",
    "Nado et al. 2020": "2006.10963",
    "Pennington et al. 2017": "1711.04735",
    "Santurkar et al. 2018": "1805.11604",
    "Saxe et al. 2013": "1312.6120",
    "Schneider et al. 2020": "2006.16971",
    "Schoenholz et al. 2017": "1611.01232",
    "Singh and Shrivastava 2019": "1904.06031",
    "Summers and Dinneen 2019": "1906.03548",
    "van Laarhoven 2017": "1706.05350",
    "Wadia et al. 2020": "2008.07545",
    "Wu and He 2018": "1803.08494",
    "Wu and Johnson 2021": "2105.07576",
    "Xiao et al. 2018": "1806.05393",
    "Xu et al. 2016": "1602.05980",
    "Yang et al. 2019": "1902.08129",
    "Zhang et al. 2016": "1611.03530",
    "Zhang et al. 2019": "1901.09321",
}
"""By what a claim's `later` calls them, their numbers on arXiv."""
