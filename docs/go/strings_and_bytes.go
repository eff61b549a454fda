package constructs

import "unicode/utf8"

// show
func lengths(text string) (bytes, characters int) {
	return len(text), utf8.RuneCountInString(text)
}
