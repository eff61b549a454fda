// A buffered channel: the sender runs ahead, until the buffer is full.
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
	<-read // the end of main would also end the reader
}
