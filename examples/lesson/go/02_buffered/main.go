// A buffered channel: the sender does not wait until the buffer is full.
package main

import "fmt"

func main() {
	letters := make(chan string, 2)
	read := make(chan bool)

	letters <- "a"
	letters <- "b"
	fmt.Println(len(letters), "of", cap(letters), "places are taken")
	go func() {
		for i := 0; i < 3; i++ {
			fmt.Println("read", <-letters)
		}
		close(read)
	}()
	letters <- "c"
	<-read // if main returned now, the reader would end too
}
